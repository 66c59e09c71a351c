"""What can be learned: a loss, what it needs beside the shared vectors, and its metrics."""

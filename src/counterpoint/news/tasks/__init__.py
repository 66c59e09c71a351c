"""What can be learned of articles beside clicks: losses, labels and how they are judged."""

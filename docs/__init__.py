"""The pages of the site, and the scripts that write what code and results say on them."""

"""What tests share: guests and how they are built, the host as oracle, leaks, the matrix."""

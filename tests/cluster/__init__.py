"""A cluster of several hosts on one machine: namespaces of Linux with their own addresses."""

"""The modal screens of the console."""

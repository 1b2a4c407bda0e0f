"""Lying disks: what a loss of power, a failed sync and a death at any system call leave behind is a whole log."""

"""Breaks a cluster while clients use it, and proves from what they saw that nothing was lost: `bin/chaos`."""

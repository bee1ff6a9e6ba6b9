"""Every reader of bytes that come from outside, given damaged and hostile ones until the time is up."""

"""The faults a person may meet between a host and a device, and the tests that each has to pass."""

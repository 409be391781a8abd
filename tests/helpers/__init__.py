"""What several tests share: recordings, servers, golden numbers, a device that is not the CPU."""

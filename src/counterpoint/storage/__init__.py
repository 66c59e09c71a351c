"""From raw rows to prepared stores: what every workload's readers and stores share."""

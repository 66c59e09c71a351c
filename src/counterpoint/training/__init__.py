"""The training loop, which knows batches, losses and a balancer, and no workload."""

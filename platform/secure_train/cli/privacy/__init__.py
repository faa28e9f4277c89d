"""What can be learnt about a job's privacy on this machine, without a control plane or a private record."""

"""What a plan and an apply are: steps, processes, work directories, Terraform binaries."""

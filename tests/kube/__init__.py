"""A real Kubernetes control plane for tests, without containers, and a stand-in for the kubelets of its nodes."""

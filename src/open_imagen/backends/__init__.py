"""What makes networks faster on a device, their weights and outputs unchanged."""

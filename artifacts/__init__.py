"""Label files per task, and the demo model's trained delta with its data card."""

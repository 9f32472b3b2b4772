"""Text frontend: written English -> spoken words -> token ids, and sentence splitting."""

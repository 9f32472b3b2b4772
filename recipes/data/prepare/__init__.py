"""From raw talking videos to latents in shards: sources, clips, latents, shards, a report."""

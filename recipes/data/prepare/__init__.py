"""From raw talking videos to latents in shards: find videos, cut clips, encode them, pack them, report."""

"""The server: live sessions over a WebSocket. `talker serve` starts it."""

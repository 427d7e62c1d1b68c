"""The web endpoint: the page, JSON-RPC over WebSocket, metrics and health (`settings.web`, DESIGN §10)."""

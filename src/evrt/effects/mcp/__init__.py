"""Tools of MCP servers: connections to them, and what comes back. Knows neither runs nor the log."""

"""A real systemd with the shipped units, booted over a throw-away copy of this machine's root."""

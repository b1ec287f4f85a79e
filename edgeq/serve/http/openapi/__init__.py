"""The routes -> the OpenAPI description of all that is served over HTTP."""

"""The JSON of `GET /edgeq/status` -> the status page, as a document and as what changed of it."""

from edgeq.observe.page.document import POLICY, Page, PageFile

__all__ = ["POLICY", "Page", "PageFile"]

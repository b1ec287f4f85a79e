"""A package so that tests share `tests.tiny`; its folders mirror those of edgeq."""

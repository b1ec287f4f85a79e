"""Drop folder -> Drop: settled, copied, checked, proved loadable in a child; or quarantined."""

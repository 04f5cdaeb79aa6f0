"""One file a framework; each says how it is installed and which cases it runs: its `FRAMEWORK`."""

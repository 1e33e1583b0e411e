"""What is a model, and which ones are here. One file per family; catalogue.py knows the disk."""

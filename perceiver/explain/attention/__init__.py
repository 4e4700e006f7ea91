"""What attention did: recorded, followed from the answer to the inputs, and changed to see what happens."""

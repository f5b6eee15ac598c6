"""What makes a network smaller whatever format it is built for: graph in, graph out."""

"""What is put into a frozen network to be trained there in its stead."""

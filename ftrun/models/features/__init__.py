"""What a network computes below the lowest stage that trains, and where that is kept."""

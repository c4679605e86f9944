"""What lies below the lowest stage that trains, computed once per example and kept."""

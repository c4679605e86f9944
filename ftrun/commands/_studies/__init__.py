"""The studies that compare and plan make: their settings, searches and costs."""

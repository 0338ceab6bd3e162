"""Ways for code written for other toolkits to run on nashquant, each an explicit opt-in."""

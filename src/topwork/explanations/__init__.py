"""Why a classifier says what it says, and whether that can be believed."""

"""The worlds: five in which one failure emerges each, and one in which all of them do."""

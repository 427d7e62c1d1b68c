"""What an organisation of agents stores: its work, its people, what they say and what it costs."""

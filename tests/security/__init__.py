"""What an attacker would try: make security runs the long forms of what stands here."""

"""What strangers wrote, used in one kept child of this process and never in the process itself.

kept.py       the child: started once, asked for one thing after another, ended where one takes long
chat.py       a starting model's chat template and tokenizer, as pages and workers ask for them
patterns.py   the site's own patterns for personal details
__main__.py   what the child does; it has no network and no credentials, and little memory
"""

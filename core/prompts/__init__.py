"""Prompt text -> embeddings, in Automatic1111's grammar.

`networks` (<lora:name:0.8>) says which changes to the network a prompt asks for;
`composition` (AND, [from:to:when], [a|b]) says which texts rule a step; `emphasis` ((word:1.2), BREAK) what a text's
words weigh; `chunks` cuts its tokens into what the text encoder reads at once; `encoder` asks the text encoder, and is
the only one that needs torch. `counting` counts tokens for the page, `reading` says what is wrong or odd.
"""

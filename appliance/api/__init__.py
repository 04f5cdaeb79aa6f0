"""The REST API `/v1`: what people and tools see of the appliance, and what they may change.

app.py        the application: routers, request ids, error documents, metrics of requests
problems.py   errors as RFC 9457 documents
security.py   bearer tokens and scopes
paging.py     lists in pages, ETags and If-Match
schemas.py    the documents
servers.py, acceptance.py, leases.py, people.py, tokens.py, vcenters.py, watching.py    the resources
"""

"""The appliance: inventory, pool, leases, users and the API of one gpuferry site.

state/         what it knows, in SQL: typed tables, migrations, fenced transactions
filters.py     `server.has-rdma=true`: the language of requests' filters
pool.py        the GPUs and what is free on them, in memory, indexed for placement
placement.py   which slices a request gets
waiting.py     whose turn it is when not everybody fits
ledger.py      leases from request to end: every change of the pool, written as one fenced transaction
bus.py         the ZeroMQ sockets: who may speak
control.py     what daemons and agents say, and what the appliance answers
api/           the REST API
command.py     `gpuferry appliance ...`
"""

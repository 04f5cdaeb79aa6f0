"""Deployment over SSH: bundles, targets, and what is done with both.

bundle.py      one signed file with all that a deployment brings along
wheels.py      what goes into it
ssh.py         a pinned, authenticated connection; sudo; jump hosts
check.py       is a machine fit? all that is wrong at once
deployment.py  deploy, uninstall, inspect: one target
fleet.py       many targets at a time
command.py     `gpuferry appliance bundle | deploy | undeploy`
on_target/     what runs on the target, with nothing but Python 3.9
errors.py      what can go wrong

Nothing here knows the database: callers bring tickets, credentials and host keys, and keep what comes of it.
"""

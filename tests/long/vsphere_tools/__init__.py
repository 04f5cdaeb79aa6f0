"""Ansible's VMware collections, which nobody here wrote, against the simulated vCenter.

pip install ansible vmware-vcenter pyvmomi          # in an environment of its own: 600 MB
python -m tests.long.vsphere_tools --ansible-playbook ENVIRONMENT/bin/ansible-playbook
"""

"""The listener of the old program, alone: old_program.py PORT. Its command does not start with a Python of
today, since a library of its ACME v1 does not; what answers challenges needs none of that."""
import sys

from marathon_acme.server import MarathonAcmeServer
from twisted.internet import reactor
from twisted.web.resource import Resource

MarathonAcmeServer(Resource()).listen(reactor, "tcp:%s:interface=127.0.0.1" % sys.argv[1])
reactor.run()

"""Graphs: made by stream capture or node by node, instantiated once, launched any number of times."""

from gpuserver.protocol.declare import Family, both, into, out

FAMILY = Family("graphs")
_DEPENDENCIES = {"dependencies": into("numDependencies")}


def _list(count: str) -> str:
    return f"{count} ? *{count} : 0"


FAMILY.create("cuGraphCreate")
FAMILY.ask("cuGraphClone", wrapped=True)
FAMILY.ask("cuGraphDestroy", destroys="hGraph", wrapped=True)  # a graph inside another is refused
FAMILY.ask("cuGraphAddEmptyNode cuGraphAddChildGraphNode", _DEPENDENCIES)
FAMILY.ask("cuGraphAddEventRecordNode cuGraphAddEventWaitNode", _DEPENDENCIES)
FAMILY.ask("cuGraphAddMemsetNode cuGraphAddMemFreeNode", _DEPENDENCIES)
FAMILY.by_hand("cuGraphAddMemAllocNode")
FAMILY.ask("cuGraphDestroyNode", destroys="hNode")
FAMILY.ask("cuGraphNodeGetType cuGraphNodeGetContainingGraph cuGraphNodeGetLocalId cuGraphNodeGetToolsId")
FAMILY.ask("cuGraphGetId cuGraphExecGetId cuGraphNodeFindInClone")
_ENDS = {"from": into("numDependencies"), "to": into("numDependencies")}
FAMILY.ask("cuGraphAddDependencies cuGraphRemoveDependencies", _ENDS)
FAMILY.ask("cuGraphAddDependencies_v2 cuGraphRemoveDependencies_v2", _ENDS, edgeData=into("numDependencies"))
FAMILY.ask("cuGraphGetNodes", nodes=out(_list("numNodes")), numNodes=both())
FAMILY.ask("cuGraphGetRootNodes", rootNodes=out(_list("numRootNodes")), numRootNodes=both())
_EDGES = {"from": out(_list("numEdges")), "to": out(_list("numEdges")), "numEdges": both()}
FAMILY.ask("cuGraphGetEdges", _EDGES)
FAMILY.ask("cuGraphGetEdges_v2", _EDGES, edgeData=out(_list("numEdges")))
_NODES_BEFORE = {"dependencies": out(_list("numDependencies")), "numDependencies": both()}
_NODES_AFTER = {"dependentNodes": out(_list("numDependentNodes")), "numDependentNodes": both()}
FAMILY.ask("cuGraphNodeGetDependencies", _NODES_BEFORE)
FAMILY.ask("cuGraphNodeGetDependencies_v2", _NODES_BEFORE, edgeData=out(_list("numDependencies")))
FAMILY.ask("cuGraphNodeGetDependentNodes", _NODES_AFTER)
FAMILY.ask("cuGraphNodeGetDependentNodes_v2", _NODES_AFTER, edgeData=out(_list("numDependentNodes")))

FAMILY.ask("cuGraphMemsetNodeGetParams cuGraphMemsetNodeSetParams cuGraphExecMemsetNodeSetParams")
FAMILY.ask("cuGraphEventRecordNodeGetEvent cuGraphEventRecordNodeSetEvent")
FAMILY.ask("cuGraphEventWaitNodeGetEvent cuGraphEventWaitNodeSetEvent")
FAMILY.ask("cuGraphExecEventRecordNodeSetEvent cuGraphExecEventWaitNodeSetEvent")
FAMILY.ask("cuGraphChildGraphNodeGetGraph cuGraphExecChildGraphNodeSetParams")
FAMILY.ask("cuGraphMemFreeNodeGetParams cuGraphNodeGetEnabled cuGraphNodeSetEnabled")
FAMILY.ask("cuGraphKernelNodeCopyAttributes cuGraphKernelNodeGetAttribute cuGraphKernelNodeSetAttribute")
FAMILY.ask("cuGraphConditionalHandleCreate")

FAMILY.ask("cuGraphInstantiateWithFlags", wrapped=True)
FAMILY.ask("cuGraphInstantiate_v2", logBuffer=out("bufferSize"), wrapped=True)
FAMILY.ask("cuGraphExecUpdate cuGraphExecGetFlags")
FAMILY.by_hand("cuGraphExecUpdate_v2 cuGraphInstantiateWithParams cuGraphDebugDotPrint")
FAMILY.post("cuGraphLaunch", wrapped=True)
FAMILY.post("cuGraphUpload")
FAMILY.post("cuGraphExecDestroy", destroys="hGraphExec", wrapped=True)

# Nodes whose parameters hold functions, host memory or handles.
FAMILY.by_hand("cuGraphAddKernelNode cuGraphKernelNodeSetParams cuGraphExecKernelNodeSetParams")
FAMILY.by_hand("cuGraphAddKernelNode_v2 cuGraphKernelNodeSetParams_v2 cuGraphExecKernelNodeSetParams_v2")
FAMILY.by_hand("cuGraphKernelNodeGetParams cuGraphKernelNodeGetParams_v2")
FAMILY.by_hand("cuGraphAddMemcpyNode cuGraphMemcpyNodeSetParams cuGraphExecMemcpyNodeSetParams")
FAMILY.by_hand("cuGraphMemcpyNodeGetParams")
FAMILY.by_hand("cuGraphAddHostNode cuGraphHostNodeSetParams cuGraphExecHostNodeSetParams cuGraphHostNodeGetParams")
FAMILY.by_hand("cuGraphAddNode cuGraphAddNode_v2 cuGraphAddNode_v3 cuGraphNodeSetParams cuGraphNodeSetParams_v2")
FAMILY.by_hand("cuGraphExecNodeSetParams cuGraphNodeGetParams")
FAMILY.by_hand("cuGraphMemAllocNodeGetParams")
FAMILY.by_hand("cuGraphAddBatchMemOpNode cuGraphBatchMemOpNodeSetParams cuGraphExecBatchMemOpNodeSetParams")
FAMILY.by_hand("cuGraphBatchMemOpNodeGetParams")

# Objects of the program's that graphs hold: the client counts.
FAMILY.local("cuUserObjectCreate cuUserObjectRetain cuUserObjectRelease")
FAMILY.local("cuGraphRetainUserObject cuGraphReleaseUserObject")

# Capture. The worker captures in relaxed mode; which calls the program's mode forbids is checked on the client.
FAMILY.by_hand("cuStreamBeginCapture cuStreamBeginCapture_v2 cuStreamBeginCaptureToGraph cuStreamEndCapture")
FAMILY.by_hand("cuStreamGetCaptureInfo_v2 cuStreamGetCaptureInfo_v3")
FAMILY.ask("cuStreamUpdateCaptureDependencies", _DEPENDENCIES)
FAMILY.ask("cuStreamUpdateCaptureDependencies_v2", _DEPENDENCIES, dependencyData=into("numDependencies"))
FAMILY.local("cuThreadExchangeStreamCaptureMode")
FAMILY.ask("cuStreamIsCapturing cuStreamGetCaptureInfo", wrapped=True)  # only while a capture is under way
FAMILY.same(cuGraphInstantiate="cuGraphInstantiate_v2")

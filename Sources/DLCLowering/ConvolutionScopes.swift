import DLCGraph
import DLCKernel

// What ConvolutionLowering still asks for: it writes its loops itself until its dimension numbers are in.
extension RegionEvaluator {
  struct Scope {
    var variables: Set<LoopVariable>
    var statements: [Statement] = []
  }
  var scopes: [Scope] {
    get { [Scope(variables: [], statements: draft.body)] }
    set { for variable in newValue[0].variables { draft.addTiles(variable) } }
  }
  var parameters: [Parameter] { draft.parameters }
  var locals: [Local] { draft.locals }
  mutating func scalar() -> ScalarID { draft.scalar() }
  mutating func append(_ statement: Statement) { draft.append(statement) }
  mutating func inScope(_ variables: Set<LoopVariable>, _ body: (inout RegionEvaluator) -> Void)
    -> [Statement]
  {
    draft.open(variables)
    body(&self)
    return draft.close()
  }
}

extension ContractionLowering {
  static func epilogue(
    _ e: inout RegionEvaluator, _ region: Region, _ root: ValueID, _ coordinate: [IndexExpression],
    outer: [(LoopVariable, BlockExtent)], inner: (LoopVariable, BlockExtent),
    outerScope: Set<LoopVariable>, _ memory: Memory, _ position: IndexExpression
  ) -> [Statement] {
    e.scopes = [RegionEvaluator.Scope(variables: outerScope)]
    e.epilogue(root, in: memory, at: position, coordinate, rows: outer[0], columns: inner)
    return e.draft.body
  }
}

extension Lowering {
  static func bindings(_ e: RegionEvaluator) -> [KernelCall.Binding] { e.bindings }
}

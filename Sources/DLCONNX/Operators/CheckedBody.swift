import DLCGraph

/// The body of a loop, which carries what was found of its indices where the run checks them.
struct CheckedBody {
  let c: NodeContext
  let body: ONNXGraph
  let isChecked: Bool
  private var checks: [IndexCheck] = []

  init(_ c: NodeContext, _ body: ONNXGraph) {
    (self.c, self.body) = (c, body)
    isChecked = c.importer.checks(body)
  }

  /// What is carried besides, before the first iteration.
  var start: [Value] { isChecked ? [c.importer.innocent] : [] }

  /// The body's results, and what is carried besides after the iteration.
  mutating func results(_ arguments: [Value], _ carried: ArraySlice<Value>) throws(ImportStop)
    -> (results: [Value], verdict: [Value])
  {
    let made = try c.importer.separately { () throws(ImportStop) in
      try c.importer.results(of: body, arguments, in: c.scope)
    }
    guard isChecked else { return (made.result, []) }
    checks = made.checks.map(\.check)
    return (made.result, [c.importer.verdict(made.checks, before: carried.first)])
  }

  /// Has the run check what was found in all iterations.
  func finish(_ carried: ArraySlice<Value>) {
    if let verdict = carried.first { c.importer.check(verdict, of: checks) }
  }
}

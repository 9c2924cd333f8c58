package import DLCTensor

/// The definition of an operator: everything that the compiler knows about it, in one file each.
/// There are no default implementations, so a missing rule does not compile.
package protocol Operator: Hashable, Sendable {
  /// The mnemonics under which this type appears in files and text.
  static var mnemonics: [String] { get }
  var mnemonic: String { get }

  var attributes: [Attribute] { get }
  init(mnemonic: String, _ attributes: inout AttributeReader) throws(DLCError)

  /// The type rule.
  func infer(_ operands: [TensorType]) throws(DLCError) -> [TensorType]

  /// The reference semantics: naive, and independent of `structure`. Types are static.
  func evaluate(_ operands: [ReferenceArray], _ results: [TensorType]) -> [ReferenceArray]

  /// How cotangents flow back.
  var derivative: Derivative { get }

  /// How the operation iterates over its operands, as data. Types are static.
  func structure(_ operands: [TensorType], _ results: [TensorType]) -> IterationStructure

  /// Operations and operand types that its tests run.
  static var samples: [OperatorSample] { get }
}

/// One tested use of an operator.
package struct OperatorSample: Sendable {
  package var operation: Operation
  package var operands: [TensorType]
  /// The range that floating-point operands are drawn from.
  package var range: ClosedRange<Double>

  package init(
    _ operation: Operation, _ operands: [TensorType], range: ClosedRange<Double> = -2...2
  ) {
    self.operation = operation
    self.operands = operands
    self.range = range
  }
}

/// The kinds of derivative that an operator can state.
package enum Derivative: Sendable {
  /// Piecewise constant, or not on floating-point numbers: every cotangent is zero.
  case zero
  /// Cotangents of the operands; nil for an operand that gets none.
  case rule(@Sendable (Pullback) -> [Value?])
  /// The operation runs graphs: they are differentiated.
  case control
  case undefined(because: String)
}

/// What a derivative rule is given: the node as values of the function that is being built.
package struct Pullback {
  package let g: FunctionBuilder
  package let operands: [Value]
  package let results: [Value]
  /// One per result; nil stands for zero and is never materialised.
  package let cotangents: [Value?]

  package init(g: FunctionBuilder, operands: [Value], results: [Value], cotangents: [Value?]) {
    self.g = g
    self.operands = operands
    self.results = results
    self.cotangents = cotangents
  }
  package var cotangent: Value { cotangents[0]! }
}

/// How an operation walks its operands. Fusion, cost and lowering switch over these, never over
/// operators.
package enum IterationStructure: Sendable {
  case constant(Tensor)
  /// The element is its own coordinate along an axis.
  case iota(axis: Int)
  /// Philox words numbered in row-major order; operands key and counter.
  case randomBits
  case view(View)
  case map(ScalarOperation)
  case reduction(Combiner, axes: [Int])
  /// The index of the first largest (or smallest) element.
  case argReduction(largest: Bool, axis: Int)
  case contraction(ContractionGeometry)
  case convolution(ConvolutionGeometry)
  case window(WindowGeometry)
  /// The result is put together from boxes; what no piece covers takes the fill operand.
  case assembly(pieces: [AssemblyPiece], fill: Int?)
  /// Slices of operand 0 at the positions that operand 1 holds.
  case gather(IndexGeometry)
  /// Operand 0 with the slices of operand 2 combined into it at the positions in operand 1; no
  /// combiner: they replace what is there.
  case scatter(IndexGeometry, Combiner?)
  /// A box of operand 0 that starts at the scalar operands after it.
  case dynamicSlice
  /// Operand 0 with operand 1 in its place at the scalar operands after it.
  case dynamicUpdate
  /// Every element combined with those before it along an axis.
  case prefix(PrefixGeometry)
  /// The number of the first extreme element under each window.
  case argWindow(ArgWindowGeometry)
  /// An algorithm of its own.
  case routine(Routine)
  /// The operation runs the graphs that it holds.
  case control(ControlFlow)
}

/// Which slices of an operand an array of index vectors names, with sizes that are bound.
package struct IndexGeometry: Hashable, Sendable {
  package var axes: IndexAttributes
  /// The extent of a slice along each operand axis.
  package var sliceSizes: [Int]
}

package struct PrefixGeometry: Hashable, Sendable {
  package var combiner: Combiner
  package var axis: Int
  package var reverse: Bool
  /// Whether the element itself is left out.
  package var exclusive: Bool
}

package struct ArgWindowGeometry: Hashable, Sendable {
  package var largest: Bool
  package var window: [Int]
  package var strides: [Int]
  package var dilation: [Int]
  /// So many leading axes have windows of one element and are not part of the number.
  package var leading: Int

  package init(largest: Bool, window: [Int], strides: [Int], dilation: [Int], leading: Int) {
    self.largest = largest
    self.window = window
    self.strides = strides
    self.dilation = dilation
    self.leading = leading
  }
}

/// Algorithms with loops that depend on the data or on earlier results.
package enum Routine: Hashable, Sendable {
  /// All operands in the order of the first `keys` of them along an axis; equal ones keep theirs.
  case sort(axis: Int, keys: Int, descending: Bool)
  case cholesky
  case triangularSolve(lower: Bool, transpose: Bool, unitDiagonal: Bool)
  case lu
}

/// Another arrangement of the same elements: which operand element each result element is.
package enum View: Hashable, Sendable {
  case reshape
  case transpose([Int])
  /// Operand axis i becomes result axis `axes[i]`; operand axes of size 1 are repeated.
  case broadcast([Int])
  case slice(starts: [Int], strides: [Int])
  case reverse([Int])
}

package struct ContractionGeometry: Hashable, Sendable {
  package var lhsBatch: [Int]
  package var rhsBatch: [Int]
  package var lhsContracting: [Int]
  package var rhsContracting: [Int]
}

/// Axes are those that `dimensions` names; lists have an entry for each spatial axis.
package struct ConvolutionGeometry: Hashable, Sendable {
  package var strides: [Int]
  package var paddingLow: [Int]
  package var paddingHigh: [Int]
  package var inputDilation: [Int]
  package var kernelDilation: [Int]
  package var groups: Int
  package var dimensions: ConvolutionDimensions

  /// Whether channels are in groups of a few, as many in as out, that channels side by side can be summed by in lanes:
  /// single ones, or a power of two, and no more terms than one chain may have.
  /// - Parameter kernel: sizes [m, c/groups, kernel...].
  package func hasSmallGroups(_ kernel: [Int]) -> Bool {
    let depth = kernel[1]
    guard groups > 1, kernel[0] == groups * depth else { return false }
    return depth == 1
      || depth & (depth - 1) == 0 && depth <= 32 && kernel.dropFirst().reduce(1, *) <= 320
  }
}

/// A window over every axis; padding takes the combiner's identity.
package struct WindowGeometry: Hashable, Sendable {
  package var combiner: Combiner
  package var window: [Int]
  package var strides: [Int]
  package var dilation: [Int]
  package var paddingLow: [Int]
  package var paddingHigh: [Int]

  package init(
    combiner: Combiner, window: [Int], strides: [Int], dilation: [Int], paddingLow: [Int],
    paddingHigh: [Int]
  ) {
    self.combiner = combiner
    self.window = window
    self.strides = strides
    self.dilation = dilation
    self.paddingLow = paddingLow
    self.paddingHigh = paddingHigh
  }
}

/// A box of the result that is copied from an operand: element `sourceStart + i` of the operand goes
/// to `start + i * stride`.
package struct AssemblyPiece: Hashable, Sendable {
  package var operand: Int
  package var sourceStart: [Int]
  package var counts: [Int]
  package var start: [Int]
  package var strides: [Int]
}

package import DLCKernel
package import DLCTensor

/// The innermost product: a register tile of rows times vectors, over a runtime depth. A few of
/// these, shared and cached, serve contractions of every shape.
package struct Microkernel: Hashable, Sendable {
  package var types: ContractTypes
  package var rows: Int
  package var vectors: Int
  /// The last vector of C is partly outside.
  package var isMasked: Bool
  /// Neighbours along the depth of A are neighbours in memory.
  package var hasUnitDepth: Bool

  /// Tile heights for a number of rows: whole tiles, then a rest that is never much thinner.
  package static func rowPlan(_ rows: Int, tile: Int) -> [(height: Int, count: Int)] {
    let (whole, rest) = (rows / tile, rows % tile)
    if rest == 0 { return [(tile, whole)] }
    if whole == 0 || rest * 2 > tile {
      return whole == 0 ? [(rest, 1)] : [(tile, whole), (rest, 1)]
    }
    let pair = tile + rest
    let upper = (pair + 1) / 2
    var plan: [(Int, Int)] = whole > 1 ? [(tile, whole - 1)] : []
    plan += upper == pair - upper ? [(upper, 2)] : [(upper, 1), (pair - upper, 1)]
    return plan
  }

  package func name(_ target: Target) -> String {
    "dlc_\(typeName)_product\(hasUnitDepth ? "" : "_strided")\(isMasked ? "_masked" : "")_\(rows)x\(vectors)__\(target.isa)"
  }

  private var typeName: String {
    types.isUniform ? "\(types.c)" : "\(types.a)_\(types.b)_\(types.c)"
  }

  private static let parameters = "ptr, i64, i64, ptr, i64, ptr, i64, i64, i64, i64"

  package func declaration(_ target: Target) -> String {
    "declare hidden void @\(name(target))(\(Self.parameters)) #0"
  }

  /// C (+)= A B with runtime strides: (a, row stride, depth stride, b, depth stride, c, row stride,
  /// depth, accumulate, columns).
  package func emit(_ target: Target) -> String {
    let text = FunctionText(target)
    let (type, element) = (types.c, types.c.llvmType)
    let (aElement, bElement) = (types.a.llvmStorage, types.b.llvmStorage)
    let lanes = target.vectorBytes / type.byteCount
    let vectorType = "<\(lanes) x \(element)>"
    text.raw(
      "define hidden void @\(name(target))(ptr noalias nonnull readonly %a, i64 %ars, i64 %aks, ptr noalias nonnull readonly %b, i64 %bks, ptr noalias nonnull %c, i64 %crs, i64 %depth, i64 %accumulate, i64 %columns) #0 {"
    )
    text.startBlock("entry")
    func pointer(_ element: String, _ base: String, _ offset: String) -> String {
      text.make("ptr", 0, "getelementptr inbounds \(element), ptr \(base), i64 \(offset)").name
    }
    /// A factor, as it lies in memory, in the sums' type.
    func widened(_ value: Operand, _ from: DataType) -> Operand {
      func full(_ type: String) -> String {
        Operand(name: "", type: type, lanes: value.lanes).fullType
      }
      func cast(_ instruction: String, _ value: Operand, _ to: String) -> Operand {
        text.make(to, value.lanes, "\(instruction) \(value.text) to \(full(to))")
      }
      switch from {
      case type: return value
      case .float16: return widened(cast("fpext", value, "float"), .float32)
      case .bfloat16:
        // The upper half of a float32.
        let wide = cast("zext", value, "i32")
        let by = FunctionText.literal("16", "i32", value.lanes)
        let bits = text.make("i32", value.lanes, "shl \(wide.text), \(by.name)")
        return widened(cast("bitcast", bits, "float"), .float32)
      case .float32: return cast("fpext", value, element)
      default:
        let (signed, unsigned) = type.isFloat ? ("sitofp", "uitofp") : ("sext", "zext")
        return cast(from.isSigned ? signed : unsigned, value, element)
      }
    }
    func multiplyAdd(_ a: Operand, _ b: Operand, _ c: Operand) -> Operand {
      if type.isFloat { return text.multiplyAdd(a, b, c) }
      let product = text.make(element, c.lanes, "mul \(a.text), \(b.name)")
      return text.make(element, c.lanes, "add \(product.text), \(c.name)")
    }
    var aRows = ["%a"]
    for row in 1..<max(rows, 2) where row < rows {
      aRows.append(pointer(aElement, aRows[row - 1], "%ars"))
    }
    var cRows = ["%c"]
    for row in 1..<max(rows, 2) where row < rows {
      cRows.append(pointer(element, cRows[row - 1], "%crs"))
    }
    var mask: Operand?
    if isMasked {
      let inLast = text.make("i64", 0, "sub i64 %columns, \((vectors - 1) * lanes)").name
      let narrow = text.make("i32", 0, "trunc i64 \(inLast) to i32")
      let limit = text.splat(narrow, lanes)
      let numbers = (0..<lanes).map { "i32 \($0)" }.joined(separator: ", ")
      mask = text.make("i1", lanes, "icmp slt <\(lanes) x i32> <\(numbers)>, \(limit.name)")
    }
    let zero = Operand(name: "zeroinitializer", type: element, lanes: lanes)
    let start = [Operand](repeating: zero, count: rows * vectors)

    func step(_ k: String, _ sums: [Operand]) -> [Operand] {
      let bOffset = text.make("i64", 0, "mul nsw i64 \(k), %bks").name
      let bPointer = pointer(bElement, "%b", bOffset)
      let columns = (0..<vectors).map { v -> Operand in
        let at = pointer(bElement, bPointer, "\(v * lanes)")
        let loaded = text.make(
          bElement, lanes, "load <\(lanes) x \(bElement)>, ptr \(at), align \(types.b.byteCount)")
        return widened(loaded, types.b)
      }
      let aOffset = hasUnitDepth ? k : text.make("i64", 0, "mul nsw i64 \(k), %aks").name
      var next = sums
      for row in 0..<rows {
        let at = pointer(aElement, aRows[row], aOffset)
        let one = text.make(
          aElement, 0, "load \(aElement), ptr \(at), align \(types.a.byteCount)")
        let all = text.splat(widened(one, types.a), lanes)
        for v in 0..<vectors {
          next[row * vectors + v] = multiplyAdd(all, columns[v], next[row * vectors + v])
        }
      }
      return next
    }
    // Four steps at a time, then the rest.
    let rest = text.make("i64", 0, "and i64 %depth, 3").name
    let whole = text.make("i64", 0, "sub i64 %depth, \(rest)").name
    var sums = text.loop(from: "0", to: whole, step: 4, carried: start) { k, phis in
      var sums = phis
      for u in 0..<4 {
        let at = u == 0 ? k : text.make("i64", 0, "add nsw i64 \(k), \(u)").name
        sums = step(at, sums)
      }
      return sums
    }
    sums = text.loop(from: whole, to: "%depth", step: 1, carried: sums) { k, phis in
      step(k, phis)
    }
    // Add to C where parts of the depth came before.
    let (add, write) = (text.label("add"), text.label("write"))
    let more = text.make("i1", 0, "icmp ne i64 %accumulate, 0").name
    let before = text.block
    text.emit("br i1 \(more), label %\(add), label %\(write)")
    text.startBlock(add)
    func place(_ row: Int, _ v: Int) -> String { pointer(element, cRows[row], "\(v * lanes)") }
    func isEdge(_ v: Int) -> Bool { isMasked && v == vectors - 1 }
    let mangled = FunctionText.mangle(zero)
    text.declare(
      "declare \(vectorType) @llvm.masked.load.\(mangled).p0(ptr, i32, <\(lanes) x i1>, \(vectorType))"
    )
    text.declare(
      "declare void @llvm.masked.store.\(mangled).p0(\(vectorType), ptr, i32, <\(lanes) x i1>)")
    var added: [Operand] = []
    for row in 0..<rows {
      for v in 0..<vectors {
        let at = place(row, v)
        let old =
          isEdge(v)
          ? text.make(
            element, lanes,
            "call \(vectorType) @llvm.masked.load.\(mangled).p0(ptr \(at), i32 \(type.byteCount), \(mask!.text), \(vectorType) zeroinitializer)"
          )
          : text.make(element, lanes, "load \(vectorType), ptr \(at), align \(type.byteCount)")
        added.append(
          text.make(
            element, lanes,
            "\(type.isFloat ? "fadd" : "add") \(old.text), \(sums[row * vectors + v].name)"))
      }
    }
    let after = text.block
    text.emit("br label %\(write)")
    text.startBlock(write)
    let finals = sums.indices.map { index -> Operand in
      text.make(
        element, lanes,
        "phi \(vectorType) [ \(sums[index].name), %\(before) ], [ \(added[index].name), %\(after) ]"
      )
    }
    for row in 0..<rows {
      for v in 0..<vectors {
        let at = place(row, v)
        let value = finals[row * vectors + v]
        if isEdge(v) {
          text.emit(
            "call void @llvm.masked.store.\(mangled).p0(\(value.text), ptr \(at), i32 \(type.byteCount), \(mask!.text))"
          )
        } else {
          text.emit("store \(value.text), ptr \(at), align \(type.byteCount)")
        }
      }
    }
    text.emit("ret void")
    text.raw("}")
    return text.moduleText
  }
}

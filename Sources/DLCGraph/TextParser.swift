package import DLCTensor

extension Module {
  /// Reads the canonical text.
  /// - Throws: `.format` with the line number when the text is malformed; graph and type errors as
  ///   the nodes are added.
  package init(parsing text: String) throws(DLCError) {
    var parser = TextParser(text)
    self = try parser.module()
    try verify()
    try verifyRecipe()
  }
}

extension Graph {
  /// Reads the body of a function, as `Graph.text` prints it.
  package init(parsing text: String) throws(DLCError) {
    var parser = TextParser(text + "}")
    self = try parser.graph()
  }
}

/// A recursive-descent parser of the text form.
struct TextParser {
  private let bytes: [UInt8]
  private var position = 0
  private(set) var line = 1
  private var depth = 0

  init(_ text: String) { bytes = Array(text.utf8) }

  func failure(_ message: String) -> DLCError {
    DLCError(.format, message, at: "line \(line)")
  }

  private mutating func skipSpace() {
    while position < bytes.count {
      if bytes[position] == 10 {
        line += 1
      } else if bytes[position] == 47, position + 1 < bytes.count, bytes[position + 1] == 47 {
        while position < bytes.count, bytes[position] != 10 { position += 1 }
        continue
      } else if bytes[position] != 32, bytes[position] != 13, bytes[position] != 9 {
        return
      }
      position += 1
    }
  }

  mutating func take(_ token: String) -> Bool {
    skipSpace()
    let wanted = Array(token.utf8)
    guard bytes[position...].starts(with: wanted) else { return false }
    let end = position + wanted.count
    // A word must end where the token ends.
    if isWord(wanted[wanted.count - 1]), end < bytes.count, isWord(bytes[end]) { return false }
    position = end
    return true
  }

  /// The next byte that is no space; 0 at the end.
  mutating func peek() -> UInt8 {
    skipSpace()
    return position < bytes.count ? bytes[position] : 0
  }

  mutating func expect(_ token: String) throws(DLCError) {
    guard take(token) else { throw failure("'\(token)' is expected") }
  }

  private func isWord(_ byte: UInt8) -> Bool {
    (byte | 32) >= 97 && (byte | 32) <= 122 || byte >= 48 && byte <= 57 || byte == 95
  }

  mutating func word() throws(DLCError) -> String {
    skipSpace()
    let start = position
    while position < bytes.count, isWord(bytes[position]) { position += 1 }
    guard position > start else { throw failure("a word is expected") }
    return String(decoding: bytes[start..<position], as: UTF8.self)
  }

  mutating func number() throws(DLCError) -> String {
    skipSpace()
    let start = position
    while position < bytes.count,
      isWord(bytes[position]) || [43, 45, 46].contains(bytes[position])
    { position += 1 }
    guard position > start else { throw failure("a number is expected") }
    return String(decoding: bytes[start..<position], as: UTF8.self)
  }

  mutating func integer() throws(DLCError) -> Int {
    let text = try number()
    guard let value = Int(text) else { throw failure("'\(text.prefix(32))' is not an integer") }
    return value
  }

  mutating func string() throws(DLCError) -> String {
    skipSpace()
    guard position < bytes.count, bytes[position] == 34 else {
      throw failure("a string is expected")
    }
    position += 1
    var result: [UInt8] = []
    while position < bytes.count, bytes[position] != 34 {
      if bytes[position] == 92, position + 1 < bytes.count {
        position += 1
        switch bytes[position] {
        case 110: result.append(10)
        case 117:
          var digits = ""
          position += 2
          while position < bytes.count, bytes[position] != 125 {
            digits.append(Character(UnicodeScalar(bytes[position])))
            position += 1
          }
          guard let code = UInt8(digits, radix: 16) else { throw failure("a bad escape") }
          result.append(code)
        default: result.append(bytes[position])
        }
      } else {
        result.append(bytes[position])
      }
      position += 1
    }
    guard position < bytes.count else { throw failure("a string has no end") }
    position += 1
    return String(decoding: result, as: UTF8.self)
  }

  private mutating func list<T>(
    until end: String, _ element: (inout TextParser) throws(DLCError) -> T
  ) throws(DLCError) -> [T] {
    var values: [T] = []
    if take(end) { return values }
    repeat { values.append(try element(&self)) } while take(",")
    try expect(end)
    return values
  }

  private mutating func dimension() throws(DLCError) -> Size {
    skipSpace()
    let start = position
    var depth = 0
    while position < bytes.count {
      let byte = bytes[position]
      if byte == 40 { depth += 1 }
      if byte == 41 { depth -= 1 }
      if depth == 0, [44, 93, 62, 10].contains(byte) { break }
      position += 1
    }
    return try Size(parsing: String(decoding: bytes[start..<position], as: UTF8.self))
  }

  private mutating func type() throws(DLCError) -> TensorType {
    let name = try word()
    guard let dataType = DataType(rawValue: name) else {
      throw failure("'\(name.prefix(32))' is not an element type")
    }
    try expect("[")
    return TensorType(
      dataType, try list(until: "]") { (p) throws(DLCError) in try p.dimension() })
  }

  private mutating func value() throws(DLCError) -> ValueID {
    try expect("%")
    return ValueID(try integer())
  }

  private mutating func tensor() throws(DLCError) -> Tensor {
    try expect("(")
    let type = try type()
    guard type.isStatic else { throw failure("a constant has a named dimension") }
    try type.validate()
    try expect(",")
    let count = type.elementCount
    var result: Tensor
    if take("hex") {
      let digits = Array(try string().utf8)
      guard digits.count == 2 * type.byteCount else {
        throw failure("a constant has the wrong length")
      }
      var data: [UInt8] = []
      for pair in stride(from: 0, to: digits.count, by: 2) {
        guard let byte = UInt8(String(decoding: digits[pair...pair + 1], as: UTF8.self), radix: 16)
        else { throw failure("a constant is not hexadecimal") }
        data.append(byte)
      }
      result = Tensor(uninitialized: type.dataType, type.sizes)
      result.withUnsafeMutableBytes { $0.copyBytes(from: data) }
    } else {
      let isSplat = take("splat")
      if !isSplat { try expect("[") }
      let elements =
        isSplat
        ? [try number()]
        : try list(until: "]") { (p) throws(DLCError) in try p.number() }
      guard isSplat ? count > 0 && count <= 1 << 28 : elements.count == count else {
        throw failure("a constant has \(counted(elements.count, "element")), not \(count)")
      }
      if type.dataType.isFloat {
        var values: [Double] = []
        for element in elements {
          // Shortest text of a float32 must be read as a float32.
          let parsed =
            type.dataType == .float64 ? Double(element) : Float(element).map { Double($0) }
          guard let parsed else { throw failure("'\(element.prefix(32))' is not a number") }
          values.append(parsed)
        }
        result = Tensor(
          type.dataType, type.sizes,
          rounding: isSplat ? [Double](repeating: values[0], count: count) : values)
      } else {
        var values: [Int64] = []
        for element in elements {
          guard let parsed = Int64(element) ?? UInt64(element).map({ Int64(bitPattern: $0) }) else {
            throw failure("'\(element.prefix(32))' is not an integer")
          }
          values.append(parsed)
        }
        result = Tensor(
          type.dataType, type.sizes,
          truncating: isSplat ? [Int64](repeating: values[0], count: count) : values)
      }
    }
    try expect(")")
    return result
  }

  private mutating func attribute() throws(DLCError) -> Attribute {
    let name = try word()
    try expect("=")
    skipSpace()
    guard position < bytes.count else { throw failure("an attribute has no value") }
    if bytes[position] == 34 { return Attribute(name, .text(try string())) }
    if take("[") {
      return Attribute(
        name, .integers(try list(until: "]") { (p) throws(DLCError) in try p.integer() }))
    }
    if take("<") {
      return Attribute(
        name, .dimensions(try list(until: ">") { (p) throws(DLCError) in try p.dimension() }))
    }
    if take("dense") { return Attribute(name, .tensor(try tensor())) }
    if take("true") { return Attribute(name, .flag(true)) }
    if take("false") { return Attribute(name, .flag(false)) }
    if take("real") {
      try expect("(")
      guard let value = Double(try number()) else { throw failure("a real number is expected") }
      try expect(")")
      return Attribute(name, .real(value))
    }
    if bytes[position] == 45 || bytes[position] >= 48 && bytes[position] <= 57 {
      return Attribute(name, .integer(try integer()))
    }
    let text = try word()
    guard let type = DataType(rawValue: text) else {
      throw failure("'\(text.prefix(32))' is not the value of an attribute")
    }
    return Attribute(name, .type(type))
  }

  mutating func graph() throws(DLCError) -> Graph {
    var graph = Graph()
    while !take("}") {
      if take("output") {
        let name = try string()
        try expect("=")
        graph.results.append(NamedValue(name, try value()))
        continue
      }
      if take("update") {
        let name = try string()
        try expect("=")
        graph.updates.append(NamedValue(name, try value()))
        continue
      }
      // A loop or branch whose results nobody needed has none.
      var results: [ValueID] = []
      skipSpace()
      if position < bytes.count, bytes[position] == 37 {
        repeat { results.append(try value()) } while take(",")
        try expect("=")
      }
      let mnemonic = try word()
      var made: [ValueID]
      if !results.isEmpty, let kind = Argument.Kind(rawValue: mnemonic) {
        guard graph.nodes.isEmpty else { throw failure("arguments come before nodes") }
        let name = try string()
        try expect(":")
        made = [
          graph.addArgument(Argument(kind, name, try type()))
        ]
      } else {
        var operands: [ValueID] = []
        skipSpace()
        if position < bytes.count, bytes[position] == 37 {
          repeat { operands.append(try value()) } while take(",")
        }
        var attributes: [Attribute] = []
        if take("{") {
          attributes = try list(until: "}") { (p) throws(DLCError) in try p.attribute() }
        }
        var regions: [Graph] = []
        if take("regions") {
          depth += 1
          guard depth <= 16 else { throw failure("graphs are nested too deep") }
          while take("{") { regions.append(try self.graph()) }
          depth -= 1
        }
        var types: [TensorType] = []
        if !results.isEmpty {
          try expect(":")
          repeat { types.append(try type()) } while take(",")
        }
        let name = take("name") ? try string() : ""
        let location = take("at") ? try string() : ""
        do {
          let operation = try Operation(
            mnemonic: mnemonic, attributes: attributes, regions: regions)
          made = try graph.append(operation, operands, name: name, location: location)
        } catch { throw error.within("line \(line)") }
        if made.map({ graph.type($0) }) != types {
          throw failure("\(mnemonic) gives \(made.map { graph.type($0) }), not \(types)")
        }
      }
      if made != results { throw failure("values must be numbered in order") }
    }
    return graph
  }

  mutating func module() throws(DLCError) -> Module {
    try expect("module")
    var module = Module(try string())
    var dimensions: [(name: String, size: Int)] = []
    var names: Set<String> = []
    try expect("{")
    while !take("}") {
      if take("dimension") {
        let name = try word()
        guard names.insert(name).inserted else { throw failure("'\(name)' is declared twice") }
        try expect("=")
        dimensions.append((name, try integer()))
      } else if take("state") {
        let name = try string()
        try expect(":")
        let type = try type()
        try expect("=")
        let initializer = try word()
        try expect("(")
        let arguments = try list(until: ")") { (p) throws(DLCError) in
          guard let value = Double(try p.number()) else { throw p.failure("a number is expected") }
          return value
        }
        var state = State(
          name: name, type: type,
          initializer: try Initializer(name: initializer, arguments: arguments),
          isParameter: take("parameter"))
        if take("value") {
          try expect("dense")
          state.value = try tensor()
        }
        module.add(state)
      } else if module.recipe == nil, take("recipe") {
        try expect("{")
        module.recipe = try recipe()
      } else {
        try expect("func")
        let name = try string()
        try expect("{")
        module.add(Function(name, try graph()))
      }
    }
    module.addDimensions(dimensions)
    return module
  }
}

package import DLCTensor

/// Fields of comma-separated values (RFC 4180): quoted fields hold commas, line ends and doubled quotes.
/// Blanks around a field without quotes do not belong to it; empty lines are left out; a byte order mark
/// at the beginning is too.
struct CSVReader {
  private let bytes: UnsafeRawBufferPointer
  private let path: String
  private let delimiter: UInt8
  private var position = 0
  /// The line of the next byte, from 1.
  private var line = 1
  private var lineStart = 0

  init(_ input: InputBytes, delimiter: UInt8) throws(DLCError) {
    (bytes, path, self.delimiter) = (input.bytes, input.path, delimiter)
    if bytes.count >= 3, bytes[0] == 0xef, bytes[1] == 0xbb, bytes[2] == 0xbf { position = 3 }
    if let zero = bytes.firstIndex(of: 0) {
      let place = input.place(of: zero)
      throw DLCError(
        .format, "this is not text: there is a zero byte",
        at: "\(path), line \(place.line), column \(place.column)")
    }
  }

  /// Puts the fields of the next record into `fields`.
  /// - Returns: the line that it begins in; nil at the end.
  /// - Throws: `.format` for a quote that is not closed, for something behind a closed one, and for what is
  ///   not UTF-8.
  mutating func next(_ fields: inout [String]) throws(DLCError) -> Int? {
    fields.removeAll(keepingCapacity: true)
    while position < bytes.count, bytes[position] == 10 || bytes[position] == 13 { endLine() }
    guard position < bytes.count else { return nil }
    let first = line
    while true {
      fields.append(try field())
      guard position < bytes.count, bytes[position] == delimiter else { break }
      position += 1
    }
    if position < bytes.count { endLine() }
    return first
  }

  private mutating func endLine() {
    if bytes[position] == 13, position + 1 < bytes.count, bytes[position + 1] == 10 {
      position += 1
    }
    position += 1
    line += 1
    lineStart = position
  }

  private func isEnd(_ byte: UInt8) -> Bool { byte == delimiter || byte == 10 || byte == 13 }

  private func isBlank(_ byte: UInt8) -> Bool { byte == 32 || byte == 9 && delimiter != 9 }

  private func bad(_ what: String, _ remedy: String = "", line: Int? = nil, column: Int? = nil)
    -> DLCError
  {
    DLCError(
      .format, what,
      at: "\(path), line \(line ?? self.line), column \(column ?? position - lineStart + 1)",
      remedy: remedy)
  }

  private mutating func field() throws(DLCError) -> String {
    while position < bytes.count, isBlank(bytes[position]) { position += 1 }
    guard position < bytes.count, bytes[position] == UInt8(ascii: "\"") else {
      let start = position
      while position < bytes.count, !isEnd(bytes[position]) { position += 1 }
      var end = position
      while end > start, isBlank(bytes[end - 1]) { end -= 1 }
      return try text(UnsafeRawBufferPointer(rebasing: bytes[start..<end]))
    }
    let (quoteLine, quoteColumn) = (line, position - lineStart + 1)
    position += 1
    var content: [UInt8] = []
    while true {
      guard position < bytes.count else {
        throw bad("a quote is not closed", line: quoteLine, column: quoteColumn)
      }
      let byte = bytes[position]
      if byte == UInt8(ascii: "\"") {
        position += 1
        guard position < bytes.count, bytes[position] == UInt8(ascii: "\"") else { break }
      }
      content.append(byte)
      if byte == 10 {
        line += 1
        lineStart = position + 1
      }
      position += 1
    }
    while position < bytes.count, isBlank(bytes[position]) { position += 1 }
    guard position >= bytes.count || isEnd(bytes[position]) else {
      throw bad("something follows a closed quote", "a quote inside of a field is doubled")
    }
    return try content.withUnsafeBytesTyped { (bytes) throws(DLCError) in try text(bytes) }
  }

  private func text(_ bytes: UnsafeRawBufferPointer) throws(DLCError) -> String {
    guard let text = String(validating: bytes, as: UTF8.self) else {
      throw bad("the field is not UTF-8", "convert the file, as with iconv -t UTF-8")
    }
    return text
  }
}

/// A table of numbers and classes from a CSV file.
package enum CSVTable {
  package struct Options: Sendable {
    package var delimiter = UInt8(ascii: ",")
    /// Whether the first line names the columns; they are called 1, 2, ... otherwise.
    package var hasHeader = true
    /// The columns of `x`, in this order; without it all that are not used otherwise, in the file's.
    package var columns: [String]?
    package var dropped: [String] = []
    /// The column of `y`: classes as int32. Whole numbers stay what they are; names are numbered in the
    /// order of their scalars, and `classes` keeps them.
    package var label: String?
    /// The column of `y`: numbers as float32.
    package var target: String?
    /// Columns whose names are numbered; `COLUMN_classes` keeps them.
    package var categories: [String] = []
    /// One array for each column, called as it, in place of one for all.
    package var isSeparate = false
    package var names = (x: "x", y: "y")

    package init() {}
  }

  /// What a column holds.
  private enum Content {
    case numbers([Float])
    case classes([Int32], names: [String])
  }

  /// Reads a file.
  /// - Throws: `.file` when it cannot be read; `.usage` when there is no column of a name; `.format`,
  ///   naming line and column, for a missing or bad number and a line of another number of fields.
  package static func dataset(_ path: String, _ options: Options) throws(DLCError) -> Dataset {
    let input = try InputBytes(path)
    var reader = try CSVReader(input, delimiter: options.delimiter)
    var fields: [String] = []
    guard var line = try reader.next(&fields) else {
      throw DLCError(.format, "the file is empty", at: path)
    }
    var header = fields
    if !options.hasHeader {
      header = fields.indices.map { "\($0 + 1)" }
    } else if header.allSatisfy({ number($0) != nil }) {
      throw DLCError(
        .format, "the first line has numbers, not the columns' names", at: "\(path), line \(line)",
        remedy: "--no-header calls the columns 1, 2, ...")
    } else if let next = try reader.next(&fields) {
      line = next
    } else {
      throw DLCError(.format, "the file has a header and no rows", at: path)
    }
    let plan = try Plan(header, options, path)
    var contents = plan.columns.map { Gathering($0.kind) }
    var rows = 0
    while true {
      guard fields.count == header.count else {
        throw DLCError(
          .format,
          "the line has \(counted(fields.count, "field")), the \(options.hasHeader ? "header" : "first line") \(header.count)",
          at: "\(path), line \(line)")
      }
      for (index, column) in plan.columns.enumerated() {
        do throws(DLCError) {
          try contents[index].append(fields[column.index])
        } catch {
          throw error.within("\(path), line \(line), column '\(column.name)'")
        }
      }
      rows += 1
      guard let next = try reader.next(&fields) else { break }
      line = next
    }
    return try plan.dataset(contents.map { $0.finished }, rows)
  }

  /// A decimal number; nil for anything else, NaN and infinity among it.
  static func number(_ text: String) -> Float? {
    guard !text.isEmpty, text.utf8.allSatisfy({ "0123456789+-.eE".utf8.contains($0) }),
      let value = Float(text), value.isFinite
    else { return nil }
    return value
  }

  private enum Kind { case number, label, category }

  /// Which columns are read, and what becomes of them.
  private struct Plan {
    var columns: [(index: Int, name: String, kind: Kind, isTarget: Bool)] = []
    let options: Options

    init(_ header: [String], _ options: Options, _ path: String) throws(DLCError) {
      self.options = options
      let places = Dictionary(
        header.enumerated().map { ($0.element, (first: $0.offset, last: $0.offset)) },
        uniquingKeysWith: { ($0.first, $1.last) })
      func find(_ name: String) throws(DLCError) -> Int {
        guard let place = places[name] else {
          throw DLCError(
            .usage, "there is no column '\(name)'", at: path,
            remedy: Spelling.remedy(for: name, among: header))
        }
        guard place.first == place.last else {
          throw DLCError(.format, "two columns are called '\(name)'", at: path)
        }
        return place.first
      }
      let (categories, dropped) = (Set(options.categories), Set(options.dropped))
      for name in options.categories + options.dropped { _ = try find(name) }
      let goal = options.label ?? options.target
      let goalIndex = try goal.map { (name) throws(DLCError) in try find(name) }
      let wanted =
        options.columns
        ?? header.filter { $0 != goal && !dropped.contains($0) }
      for name in wanted {
        let index = try find(name)
        guard index != goalIndex else {
          throw DLCError(.usage, "column '\(name)' cannot be an input and what is learnt", at: path)
        }
        guard !name.isEmpty else {
          throw DLCError(
            .format, "column \(index + 1) has no name", at: path,
            remedy: "--drop '' leaves it out, and --columns names those that are wanted")
        }
        columns.append((index, name, categories.contains(name) ? .category : .number, false))
      }
      guard !columns.isEmpty else {
        throw DLCError(.usage, "no column is left for '\(options.names.x)'", at: path)
      }
      if let goal, let goalIndex {
        columns.append((goalIndex, goal, options.label == nil ? .number : .label, true))
      }
    }

    func dataset(_ contents: [Content], _ rows: Int) throws(DLCError) -> Dataset {
      var result = Dataset(count: rows, columns: [])
      let inputs = zip(columns, contents).filter { !$0.0.isTarget }.map(\.1)
      if !options.isSeparate {
        result.columns.append(
          Dataset.Column(options.names.x, .float32, [inputs.count]) { (row, out) throws(DLCError) in
            for (index, content) in inputs.enumerated() {
              let value: Float =
                switch content {
                case .numbers(let values): values[row]
                case .classes(let values, _): Float(values[row])
                }
              out.storeBytes(of: value, toByteOffset: 4 * index, as: Float.self)
            }
          })
      }
      for (column, content) in zip(columns, contents) {
        if case .classes(_, let names) = content, !names.isEmpty {
          result.constants.append(
            (
              column.isTarget ? "classes" : "\(column.name)_classes",
              ClassNames.array(names)
            ))
        }
        guard options.isSeparate || column.isTarget else { continue }
        let name = column.isTarget ? options.names.y : column.name
        switch content {
        case .numbers(let values):
          result.columns.append(
            Dataset.Column(name, .float32, []) { (row, out) throws(DLCError) in
              out.storeBytes(of: values[row], as: Float.self)
            })
        case .classes(let values, _):
          result.columns.append(
            Dataset.Column(name, .int32, []) { (row, out) throws(DLCError) in
              out.storeBytes(of: values[row], as: Int32.self)
            })
        }
      }
      return result
    }
  }

  /// A column while it is read.
  private struct Gathering {
    let kind: Kind
    var numbers: [Float] = []
    var codes: [Int32] = []
    var names: [String] = []
    var known: [String: Int32] = [:]

    init(_ kind: Kind) { self.kind = kind }

    mutating func append(_ field: String) throws(DLCError) {
      guard !field.isEmpty else {
        throw DLCError(
          .format, kind == .number ? "a number is missing" : "the name of a class is missing")
      }
      guard kind == .number else {
        if kind == .label, Int32(field) == nil, Int64(field) != nil {
          throw DLCError(
            .format, "the class \(field) is no int32",
            remedy: "number the classes from 0, or make names of them")
        }
        if let code = known[field] {
          codes.append(code)
        } else {
          let code = Int32(names.count)
          known[field] = code
          names.append(field)
          codes.append(code)
        }
        return
      }
      guard let value = CSVTable.number(field) else {
        throw DLCError(
          .format, "'\(field.prefix(40))' is no number that float32 holds",
          remedy: numbers.isEmpty
            ? "--drop leaves the column out, --label and --categories make numbers of its names"
            : "")
      }
      numbers.append(value)
    }

    var finished: Content {
      if kind == .number { return .numbers(numbers) }
      let whole = names.map { Int32($0) }
      if kind == .label, whole.allSatisfy({ $0 != nil }), Set(whole).count == names.count {
        return .classes(codes.map { whole[Int($0)]! }, names: [])
      }
      let order = names.indices.sorted {
        names[$0].unicodeScalars.lexicographicallyPrecedes(names[$1].unicodeScalars)
      }
      var place = [Int32](repeating: 0, count: names.count)
      for (new, old) in order.enumerated() { place[old] = Int32(new) }
      return .classes(codes.map { place[Int($0)] }, names: order.map { names[$0] })
    }
  }
}

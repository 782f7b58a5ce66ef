"""Writes jinja.jsonl: chat templates in the style of known families, rendered by
transformers' own Jinja environment.  Needs transformers and jinja2.

  make_jinja.py [MORE.jinja ...]   templates of packaged models are added, too

Lines: {"name", "template"}, then {"chat": {variables}}, then
{"t": template, "c": chat, "out": text, "spans": [..]} or {"t", "c", "raises": true}."""
import json
import os
import sys

from transformers.utils.chat_template_utils import _alias_reasoning_fields, render_jinja_template

T = {}


def add(name, text):
    T[name] = text


CHATML = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] "
          "+ '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}"
          "{{ '<|im_start|>assistant\\n' }}{% endif %}")
add("chatml", CHATML)
add("smollm2", "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}"
    "{% endif %}" + CHATML[len("{% for message in messages %}"):])
add("qwen1.5", "{% for message in messages %}{{- '<|im_start|>' ~ message.role ~ '\n' ~ message.content }}"
    "{{- '<|im_end|>\n' if not loop.last or add_generation_prompt else '<|im_end|>' }}{% endfor %}"
    "{{- '<|im_start|>assistant\n' if add_generation_prompt }}")
add("yi", "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}"
    "{% if messages[0]['role'] == 'system' %}{% set system_message = messages[0]['content'] %}{% endif %}"
    "{% if system_message is defined %}{{ system_message }}{% endif %}"
    "{% for message in messages %}{% set content = message['content'] %}{% if message['role'] == 'user' %}"
    "{{ '<|im_start|>user\\n' + content + '<|im_end|>\\n<|im_start|>assistant\\n' }}"
    "{% elif message['role'] == 'assistant' %}{{ content + '<|im_end|>' + '\\n' }}{% endif %}{% endfor %}")
ALTERNATE = ("{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
             "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}"
             "{% endif %}")
add("llama2", "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}"
    "{% set system_message = false %}{% endif %}{% for message in loop_messages %}" + ALTERNATE +
    "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'system' %}"
    "{{ '<<SYS>>\\n' + content.strip() + '\\n<</SYS>>\\n\\n' }}{% elif message['role'] == 'assistant' %}"
    "{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}")
add("llama3", "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ "
    "message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
    "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}")
add("llama3.1", """{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not tools_in_user_message is defined %}
    {%- set tools_in_user_message = true %}
{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}

{#- This block extracts the system message, so we can slot it into the right place. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}

{#- System message + builtin tools #}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if builtin_tools is defined or tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{%- if builtin_tools is defined %}
    {{- "Tools: " + builtin_tools | reject('equalto', 'code_interpreter') | join(", ") + "\\n\\n"}}
{%- endif %}
{{- "Cutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{%- if tools is not none and not tools_in_user_message %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}

{#- Custom tools are passed in a user message with some extra guidance #}
{%- if tools_in_user_message and not tools is none %}
    {%- if messages | length != 0 %}
        {%- set first_user_message = messages[0]['content']|trim %}
        {%- set messages = messages[1:] %}
    {%- else %}
        {{- raise_exception("Cannot put tools in the first user message when there's no first user message!") }}
{%- endif %}
    {{- '<|start_header_id|>user<|end_header_id|>\\n\\n' -}}
    {{- "Given the following functions, please respond with a JSON for a function call.\\n\\n" }}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
    {{- first_user_message + "<|eot_id|>"}}
{%- endif %}

{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("This model only supports single tool-calls at once!") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
        {{- '{"name": "' + tool_call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}" }}
        {{- "<|eot_id|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""")
add("mistral-v1", "{{ bos_token }}{% for message in messages %}" + ALTERNATE +
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token + ' ' }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}")
add("mixtral", "{{ bos_token }}{% for message in messages %}" + ALTERNATE +
    "{% if message['role'] == 'user' %}{{ ' [INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token}}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported, got ' + message['role']) }}"
    "{% endif %}{% endfor %}")
MISTRAL3 = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{#- This block checks for alternating user/assistant messages, skipping tool calling messages #}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or message.role == "tool_results" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("After the optional system message, conversation roles must alternate user/assistant") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.items() if key != "return" %}
                    {%- if val is string %}
                        {{- '"' + key + '": "' + val + '"' }}
                    {%- else %}
                        {{- '"' + key + '": ' + val|tojson }}
                    {%- endif %}
                    {%- if not loop.last %}
                        {{- ", " }}
                    {%- endif %}
                {%- endfor %}
                {{- "}}" }}
                {%- if not loop.last %}
                    {{- ", " }}
                {%- else %}
                    {{- "]" }}
                {%- endif %}
            {%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
            {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS] [" }}
        {%- for tool_call in message.tool_calls %}
            {%- set out = tool_call.function|tojson %}
            {{- out[:-1] }}
            {%- if not tool_call.id is defined or tool_call.id|length != 9 %}
                {{- raise_exception("Tool call IDs should be alphanumeric strings with length 9!") }}
            {%- endif %}
            {{- ', "id": "' + tool_call.id + '"}' }}
            {%- if not loop.last %}
                {{- ", " }}
            {%- else %}
                {{- "]" + eos_token }}
            {%- endif %}
        {%- endfor %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- elif message["role"] == "tool_results" or message["role"] == "tool" %}
        {%- if message.content is defined and message.content.content is defined %}
            {%- set content = message.content.content %}
        {%- else %}
            {%- set content = message.content %}
        {%- endif %}
        {{- '[TOOL_RESULTS] {"content": ' + content|string + ", " }}
        {%- if not message.tool_call_id is defined or message.tool_call_id|length != 9 %}
            {{- raise_exception("Tool call IDs should be alphanumeric strings with length 9!") }}
        {%- endif %}
        {{- '"call_id": "' + message.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported, with the exception of an initial optional system message!") }}
    {%- endif %}
{%- endfor %}
"""
add("mistral-v3", MISTRAL3)
add("mistral-nemo", MISTRAL3.replace("[AVAILABLE_TOOLS] [", "[AVAILABLE_TOOLS][").replace('"[INST] "', '"[INST]"')
    .replace('" " + message["content"]|trim', 'message["content"]').replace("[TOOL_CALLS] [", "[TOOL_CALLS]["))
add("zephyr", "{% for message in messages %}\n{% if message['role'] == 'user' %}\n"
    "{{ '<|user|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'system' %}\n"
    "{{ '<|system|>\n' + message['content'] + eos_token }}\n{% elif message['role'] == 'assistant' %}\n"
    "{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}")
add("tinyllama", "{% for message in messages %}\n{%+ if message['role'] == 'user' %}\n"
    "{{ '<|user|>\n' + message['content'] + eos_token -}}\n{% elif message['role'] == 'system' +%}\n"
    "{{ '<|system|>\n' + message['content'] + eos_token }}\n  {%- else %}\n  {# else #}\n"
    "{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}\n{% endfor %}\n")
QWEN_TOOLS = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You are Qwen, created by Alibaba Cloud. You are a helpful assistant.' }}
    {%- endif %}
    {{- "\\n\\n# Tools\\n\\nYou may call one or more functions:\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools>\\n\\n<tool_call>\\n{\\"name\\": <function-name>, \\"arguments\\": <args-json-object>}\\n</tool_call><|im_end|>\\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
"""
add("qwen2", "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}" + CHATML[30:])
QWEN_BODY = """{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\\n<tool_call>\\n{"name": "' }}
            {{- tool_call.name }}
            {{- '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- message.content }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
add("qwen2.5", QWEN_TOOLS + QWEN_BODY)
add("qwen3", """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\\n\\n' }}
    {%- endif %}
    {{- "# Tools\\n\\n<tools>" }}
    {%- for tool in tools %}{{- "\\n" ~ tool | tojson }}{%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index %}
            {%- if loop.last or (not loop.last and reasoning_content) %}
                {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}
            {%- for tool_call in message.tool_calls %}
                {%- if (loop.first and content) or (not loop.first) %}{{- '\\n' }}{%- endif %}
                {%- if tool_call.function %}{%- set tool_call = tool_call.function %}{%- endif %}
                {{- '<tool_call>\\n{"name": "' }}
                {{- tool_call.name }}
                {{- '", "arguments": ' }}
                {%- if tool_call.arguments is string %}
                    {{- tool_call.arguments }}
                {%- else %}
                    {{- tool_call.arguments | tojson }}
                {%- endif %}
                {{- '}\\n</tool_call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- content }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}{{- '<|im_end|>\\n' }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}""")
add("smollm3", """{%- if enable_thinking is not defined -%}{%- set enable_thinking = true -%}{%- endif -%}
{%- set reasoning_mode = "/think" if enable_thinking else "/no_think" -%}
{%- if messages[0].role == "system" -%}
  {%- set system_message = messages[0].content -%}
  {%- if "/no_think" in system_message -%}{%- set reasoning_mode = "/no_think" -%}{%- endif -%}
  {%- set custom_instructions = system_message.replace("/no_think", "").replace("/think", "").rstrip() -%}
{%- endif -%}
{{- "<|im_start|>system\\n" -}}
{{- "## Metadata\\n\\nKnowledge Cutoff Date: June 2025\\n" -}}
{{- "Reasoning Mode: " + reasoning_mode + "\\n\\n## Custom Instructions\\n\\n" -}}
{{- custom_instructions + "\\n\\n" if custom_instructions else "You are a helpful AI assistant named SmolLM.\\n\\n" -}}
{%- if xml_tools or python_tools or tools -%}
  {{- "### Tools\\n\\n" -}}
  {%- set ns = namespace(xml_tool_string="<tools>\\n") -%}
  {%- for tool in tools[:] -%}
    {%- set ns.xml_tool_string = ns.xml_tool_string ~ (tool | string) ~ "\\n" -%}
  {%- endfor -%}
  {{- ns.xml_tool_string + "</tools>\\n" -}}
{%- endif -%}
{{- "<|im_end|>\\n" -}}
{%- for message in messages -%}
  {%- set content = message.content if message.content is string else "" -%}
  {%- if message.role == "user" -%}
    {{ "<|im_start|>" + message.role + "\\n" + content + "<|im_end|>\\n" }}
  {%- elif message.role == "assistant" -%}
    {% generation %}
    {%- if reasoning_mode == "/think" -%}
      {{ "<|im_start|>assistant\\n" + content.lstrip("\\n") + "<|im_end|>\\n" }}
    {%- else -%}
      {{ "<|im_start|>assistant\\n" + "<think>\\n\\n</think>\\n" + content.lstrip("\\n") + "<|im_end|>\\n" }}
    {%- endif -%}
    {% endgeneration %}
  {%- elif message.role == "tool" -%}
    {{ "<|im_start|>user\\n" + content + "<|im_end|>\\n" }}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{ "<|im_start|>assistant\\n" if reasoning_mode == "/think" else "<|im_start|>assistant\\n<think>\\n\\n</think>\\n" }}
{%- endif -%}
""")
GEMMA_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
GEMMA_LOOP = ("{% for message in messages %}" + ALTERNATE + "{% if (message['role'] == 'assistant') %}"
              "{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}"
              "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
              "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}")
add("gemma", "{{ bos_token }}" + GEMMA_SYSTEM + GEMMA_LOOP)
add("gemma2", GEMMA_SYSTEM + "{{ bos_token }}" + GEMMA_LOOP + "\n")
add("gemma3", """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '

' -%}
    {%- else -%}
        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '

' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '
' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}
                {{ '<start_of_image>' }}
            {%- elif item['type'] == 'text' -%}
                {{ item['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '<end_of_turn>
' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model
'}}
{%- endif -%}
""")
add("phi3-mini", "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') %}"
    "{{'<|user|>' + '\n' + message['content'] + '<|end|>' + '\n' + '<|assistant|>' + '\n'}}"
    "{% elif (message['role'] == 'assistant') %}{{message['content'] + '<|end|>' + '\n'}}{% endif %}{% endfor %}")
add("phi3.5", "{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}"
    "{{'<|system|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'user' %}"
    "{{'<|user|>\n' + message['content'] + '<|end|>\n'}}{% elif message['role'] == 'assistant' %}"
    "{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}")
add("phi4", "{% for message in messages %}{% if (message['role'] == 'system') %}"
    "{{'<|im_start|>system<|im_sep|>' + message['content'] + '<|im_end|>'}}{% elif (message['role'] == 'user') %}"
    "{{'<|im_start|>user<|im_sep|>' + message['content'] + '<|im_end|>'}}{% elif (message['role'] == 'assistant') %}"
    "{{'<|im_start|>assistant<|im_sep|>' + message['content'] + '<|im_end|>'}}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}")
add("phi4-mini", "{% for message in messages %}{% if message['role'] == 'system' and 'tools' in message and "
    "message['tools'] is not none %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|tool|>' + "
    "message['tools'] + '<|/tool|>' + '<|end|>' }}{% else %}{{ '<|' + message['role'] + '|>' + "
    "message['content'] + '<|end|>' }}{% endif %}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}")
add("deepseek", "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}"
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{{ 'User: ' + message['content'] + '\n\n' }}{% elif message['role'] == 'assistant' %}"
    "{{ 'Assistant: ' + message['content'] + eos_token }}{% elif message['role'] == 'system' %}"
    "{{ message['content'] + '\n\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}")
add("deepseek-r1", "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}"
    "{% set ns = namespace(is_first=false, is_tool=false, is_output_first=true, system_prompt='') %}"
    "{%- for message in messages %}{%- if message['role'] == 'system' %}{% set ns.system_prompt = message['content'] %}"
    "{%- endif %}{%- endfor %}{{bos_token}}{{ns.system_prompt}}{%- for message in messages %}"
    "{%- if message['role'] == 'user' %}{%- set ns.is_tool = false -%}{{'<｜User｜>' + message['content']}}{%- endif %}"
    "{%- if message['role'] == 'assistant' and message['content'] is none %}{%- set ns.is_tool = false -%}"
    "{%- for tool in message['tool_calls']%}{%- if not ns.is_first %}"
    "{{'<｜Assistant｜><｜tool▁calls▁begin｜>' + tool['type'] + '<｜tool▁sep｜>' + tool['function']['name'] + '\\n' + "
    "'```json' + '\\n' + tool['function']['arguments']|tojson + '\\n' + '```'}}{%- set ns.is_first = true -%}"
    "{%- else %}{{'\\n' + tool['type']}}{%- endif %}{%- endfor %}{%- endif %}"
    "{%- if message['role'] == 'assistant' and message['content'] is not none %}{%- if ns.is_tool %}"
    "{{'<｜tool▁outputs▁end｜>' + message['content'] + '<｜end▁of▁sentence｜>'}}{%- set ns.is_tool = false -%}{%- else %}"
    "{% set content = message['content'] %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}"
    "{% endif %}{{'<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>'}}{%- endif %}{%- endif %}"
    "{%- if message['role'] == 'tool' %}{%- set ns.is_tool = true -%}{%- if ns.is_output_first %}"
    "{{'<｜tool▁outputs▁begin｜>' + message['content']}}{%- set ns.is_output_first = false %}{%- else %}"
    "{{'\\n' + message['content']}}{%- endif %}{%- endif %}{%- endfor -%}{% if ns.is_tool %}"
    "{{'<｜tool▁outputs▁end｜>'}}{% endif %}{% if add_generation_prompt and not ns.is_tool %}{{'<｜Assistant｜><think>\\n'}}{% endif %}")
add("command-r", """{%- macro json_to_python_type(json_spec) %}
{%- set basic_type_map = {"string": "str", "number": "float", "integer": "int", "boolean": "bool"} %}
{%- if basic_type_map[json_spec.type] is defined %}
    {{- basic_type_map[json_spec.type] }}
{%- elif json_spec.type == "array" %}
    {{- "List[" +  json_to_python_type(json_spec['items']) + "]"}}
{%- elif json_spec.type == "object" %}
    {{- "Dict" }}
{%- elif json_spec.type is iterable %}
    {{- "Union[" }}
    {%- for t in json_spec.type %}
      {{- json_to_python_type({"type": t}) }}
      {%- if not loop.last %}{{- "," }}{%- endif %}
    {%- endfor %}
    {{- "]" }}
{%- else %}
    {{- "Any" }}
{%- endif %}
{%- endmacro %}
{{- bos_token }}
{%- for tool in tools or [] %}
    {%- set tool = tool.function %}
    {{- "def " + tool.name + "(" }}
    {%- for param_name, param_fields in tool.parameters.properties|items %}
        {{- param_name + ": " }}
        {%- if not param_name in tool.parameters.required %}
            {{- "Optional[" + json_to_python_type(param_fields) + "] = None"}}
        {%- else %}
            {{- json_to_python_type(param_fields) }}
        {%- endif %}
        {%- if not loop.last %}{{- ", " }}{%- endif %}
    {%- endfor %}
    {{- ") -> List[Dict]:\\n    \\"\\"\\"" ~ tool.description ~ "\\"\\"\\"\\n" }}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role|lower == 'user' %}
        {{- '<|START_OF_TURN_TOKEN|><|USER_TOKEN|>' + message['content'].strip() + '<|END_OF_TURN_TOKEN|>' }}
    {%- elif message.role|lower in ['assistant', 'chatbot'] %}
        {{- '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' ~ (message['content'] or '')|trim ~ '<|END_OF_TURN_TOKEN|>' }}
    {%- else %}
        {{- '<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>' ~ message.content ~ '<|END_OF_TURN_TOKEN|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{%- endif %}
""")
add("granite", """{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set system_message = "Knowledge Cutoff Date: April 2024. You are Granite, developed by IBM." %}
    {%- if tools and documents %}
        {%- set system_message = system_message + " Tools and documents." %}
    {%- elif tools %}
        {%- set system_message = system_message + " You are a helpful AI assistant with access to the following tools." %}
    {%- endif %}
    {%- set loop_messages = messages %}
{%- endif %}
{{- '<|start_of_role|>system<|end_of_role|>' + system_message + '<|end_of_text|>
' }}
{%- if tools %}
    {{- '<|start_of_role|>tools<|end_of_role|>' }}
    {{- tools | tojson(indent=4) }}
    {{- '<|end_of_text|>
' }}
{%- endif %}
{%- for message in loop_messages %}
    {{- '<|start_of_role|>' + message['role'] + '<|end_of_role|>' + message['content'] + '<|end_of_text|>
' }}
    {%- if loop.last and add_generation_prompt %}
        {{- '<|start_of_role|>assistant' }}
        {%- if controls %}{{- ' ' + controls | tojson() }}{%- endif %}
        {{- '<|end_of_role|>' }}
    {%- endif %}
{%- endfor %}""")
add("falcon3", "{%- if tools %}\n{{- '<|system|>\\nTools: ' ~ tools|map(attribute='function.name')|join(', ') }}\n"
    "{%- endif %}\n{%- for message in messages %}\n    {%- if message['role'] in ['system', 'user'] %}\n"
    "        {{- '<|' ~ message['role'] ~ '|>\\n' ~ message['content'] ~ '\\n' }}\n    {%- else %}\n"
    "        {%- if not loop.last %}\n            {{- '<|assistant|>\\n' ~ message['content'] ~ eos_token ~ '\\n' }}\n"
    "        {%- else %}\n            {{- '<|assistant|>\\n' ~ message['content'] ~ eos_token }}\n        {%- endif %}\n"
    "    {%- endif %}\n    {%- if loop.last and add_generation_prompt %}\n        {{- '<|assistant|>\\n' }}\n"
    "    {%- endif %}\n{%- endfor %}\n")
add("olmo2", "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{ '<|system|>\n' + message['content'] + '\n' }}{% elif message['role'] == 'user' %}"
    "{{ '<|user|>\n' + message['content'] + '\n' }}{% elif message['role'] == 'assistant' %}{% if not loop.last %}"
    "{{ '<|assistant|>\n'  + message['content'] + eos_token + '\n' }}{% else %}"
    "{{ '<|assistant|>\n'  + message['content'] + eos_token }}{% endif %}{% endif %}"
    "{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}{% endfor %}")
add("vicuna", "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'].strip() + ' ' }}"
    "{% set messages = messages[1:] %}{% else %}{{ 'A chat between a curious user and an assistant. ' }}{% endif %}"
    "{% for message in messages %}{{ {'user': 'USER: ', 'assistant': 'ASSISTANT: '}.get(message.role, message.role|title ~ ': ') "
    "~ message['content'] ~ (eos_token if loop.changed(message.role) and message.role == 'assistant' else ' ') }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}")
add("alpaca", "{{ (messages|selectattr('role', 'eq', 'system')|map(attribute='content')|first|default('Below is an instruction.', true)).strip() }}\n\n"
    "{% for message in messages if message.role != 'system' %}{% if message.role == 'user' %}\n"
    "### Instruction:\n{{ message.content|trim }}\n{% elif message.role == 'assistant' %}\n\n"
    "### Response:\n{{ message.content }}{{ eos_token }}\n\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}\n### Response:\n{% endif %}")
add("openchat", "{{ bos_token }}{% for message in messages %}{{ 'GPT4 Correct ' + message['role'].title() + ': ' + "
    "message['content'] + '<|end_of_turn|>'}}{% endfor %}{% if add_generation_prompt %}{{ 'GPT4 Correct Assistant:' }}{% endif %}")
add("starling", "{% macro turn(who, text='', end='<|end_of_turn|>') -%}\n  {{ caller(who) if caller else who }}: {{ text }}{{ end }}\n"
    "{%- endmacro %}{{ bos_token }}{% for message in messages %}"
    "{% call(w) turn(message.role|capitalize, text=message.content) %}Code {{ w }}{% endcall %}{% endfor %}"
    "{{ turn('Code Assistant', end='') if add_generation_prompt }}")
add("internlm2", "{{ bos_token }}{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>' + '\n'}}{% endfor %}{% filter upper %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% endif %}{% endfilter %}")
add("glm4", """[gMASK]<sop>
{%- if tools -%}
<|system|>
# Tools
{% for tool in tools %}
{{ tool | tojson(ensure_ascii=False) }}
{% endfor %}
{%- endif -%}
{%- macro visible_text(content) -%}
    {%- if content is string -%}
        {{- content }}
    {%- elif content is iterable and content is not mapping -%}
        {%- for item in content -%}
            {%- if item is mapping and item.type == 'text' -%}
                {{- item.text }}
            {%- elif item is string -%}
                {{- item }}
            {%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{- content }}
    {%- endif -%}
{%- endmacro -%}
{%- set ns = namespace(last_user_index=-1) %}
{%- for m in messages %}
    {%- if m.role == 'user' %}
        {% set ns.last_user_index = loop.index0 -%}
    {%- endif %}
{%- endfor %}
{% for m in messages %}
{%- if m.role == 'user' -%}<|user|>
{{ visible_text(m.content) }}
{%- elif m.role == 'assistant' -%}
<|assistant|>
{%- if m.tool_calls %}
{% for tc in m.tool_calls %}
{{ '\\n<tool_call>' + tc.function.name }}
{% set _args = tc.function.arguments %}
{% for k, v in _args.items() %}
<arg_key>{{ k }}</arg_key>
<arg_value>{{ v | tojson(ensure_ascii=False) if v is not string else v }}</arg_value>
{% endfor %}
</tool_call>{% endfor %}
{% endif %}
{{ '\\n' + visible_text(m.content).strip() if visible_text(m.content).strip() }}
{%- elif m.role == 'tool' -%}
{%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}
    {{- '<|observation|>' }}
{%- endif %}
{{- '\\n<tool_response>\\n' ~ m.content ~ '\\n</tool_response>' }}
{%- elif m.role == 'system' -%}
<|system|>
{{ visible_text(m.content) }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    <|assistant|>{{- '\\n<think></think>' if (enable_thinking is defined and not enable_thinking) else '' -}}
{%- endif -%}
""")
add("chatml-generation", "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' }}"
    "{% if message.role == 'assistant' %}{% generation %}{{ message.content }}<|im_end|>{% endgeneration %}\n"
    "{% else %}{{ message.content + '<|im_end|>\n' }}{% endif %}{% endfor %}")
add("llama3-groups", "{{ bos_token }}{% for m in messages %}{% if loop.previtem is defined and loop.previtem.role == m.role %}"
    "{{ '\n\n' ~ m.content }}{% else %}{{ '<|eot_id|>' if not loop.first }}[{{ m.role }} {{ loop.index }}/{{ loop.length }} "
    "{{ loop.revindex }} {{ loop.cycle('odd', 'even') }}]{{ m.content }}{% endif %}"
    "{% if loop.nextitem is undefined %}<|eot_id|>{% endif %}{% else %}empty{% endfor %}")
add("gpt-oss-style", """{%- macro render_type(spec, required=false) -%}
{%- if spec.type == 'array' -%}{{ render_type(spec['items']) }}[]{%- elif spec.type is string -%}
{%- if spec.enum %}{{ '"' + spec.enum|join('" | "') + '"' }}{% else %}{{ spec.type }}{% endif %}
{%- if spec.nullable %} | null{% endif %}{%- else -%}any{%- endif -%}
{%- if not required %}?{% endif -%}
{%- endmacro -%}
<|start|>system<|message|>You are ChatGPT.
{% if tools %}
namespace functions {
{% for tool in tools|map(attribute='function') %}

// {{ tool.description }}
type {{ tool.name }} = (_: {
{% for name, spec in (tool.parameters.properties|default({}, true))|dictsort %}
{{ name }}: {{ render_type(spec, name in tool.parameters.required) }},{{ ' // default: ' ~ spec.default if spec.default is defined }}
{% endfor %}
}) => any;
{% endfor %}
}{% endif %}<|end|>
{%- for m in messages %}
{%- if m.role == 'assistant' and m.thinking %}<|start|>assistant<|channel|>analysis<|message|>{{ m.thinking }}<|end|>{% endif %}
{%- if m.role == 'tool' %}{% set last = messages[:loop.index0]|selectattr('tool_calls')|list|last %}
<|start|>functions.{{ last.tool_calls[0].function.name }} to=assistant<|message|>{{ m.content|tojson }}<|end|>
{%- else %}<|start|>{{ m.role }}<|message|>{{ m.content if m.content is string else (m.content or '')|string }}<|end|>{% endif %}
{%- endfor -%}
{%- if add_generation_prompt -%}<|start|>assistant{%- endif -%}""")
add("llama4-parts", """{{- bos_token }}{% for message in messages %}
{{- "<|header_start|>" + message['role'] + "<|header_end|>\\n\\n" }}
    {%- if message['content'] is string %}
        {{- message['content'] }}
    {%- else %}
        {%- for content in message['content'] %}
            {%- if content['type'] == 'image' %}{{- '<|image|>' }}
            {%- elif content['type'] == 'text' %}{{- content['text'] | trim }}{%- endif %}
        {%- endfor %}
    {%- endif %}
    {{- "<|eot|>" }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- "<|header_start|>assistant<|header_end|>\\n\\n" }}
{%- endif %}
""")
add("break-continue", "{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}"
    "{{ loop.index }}:{{ m.content }}\n{% if loop.index > 3 %}{% break %}{% endif %}{% endfor %}"
    "{% with a = messages|length, b = 2 %}{{ a // b }}{{ a % b }}{{ a / b }}{{ a ** b }}{% endwith %}"
    "{% raw %}{{ not }} {% this %}{% endraw %}{{ messages[0] }}{{ messages|map(attribute='role')|unique|list }}")
add("date", "{{ strftime_now('%d %b %Y') | length }} {% set x %}  block {{ messages|length }} {% endset %}{{ x|trim|tojson }}"
    "{% set a, b = 'left', messages[-1].role %}{{ a ~ '/' ~ b }} {{ '%s is %d' % (b, 3) }} {{ '{} {1}'.format(a, b) if false }}"
    "{{ 'yes' if b == 'user' }}|{{ none }}{{ missing }}{{ true and not false }}{{ 1.0 }}{{ [1, 'a', none] }}{{ (1,) }}"
    "{{ {'k': [1.5, true]}|tojson(indent=2) }}{{ messages|tojson(separators=(',', ':'))|length }}{{ bos_token.upper() }}")
add("strict-values", "{% for m in messages %}{% set c = m['content'] %}{% if c is not string %}"
    "{{ raise_exception('content of message ' ~ loop.index ~ ' is ' ~ ('none' if c is none else 'a list')) }}{% endif %}"
    "{{ c[:12] }}|{{ c[-3:] }}|{{ c[::-1] }}|{{ c|length }}|{{ c.split()|join('_') }}|{{ c|wordcount }}|{{ c|title }}"
    "|{{ c|capitalize }}|{{ c|upper }}|{{ c.splitlines()|length }}|{{ c|e }}|{{ c|replace('a', 'A') }}|{{ c|indent(2) }}\n{% endfor %}")
add("errors", "{% if messages|length > 3 %}{{ messages[0].nothing.more }}{% endif %}{{ messages[99] }}{{ messages[0].nothing }}"
    "{{ messages[1:]|sum(attribute='n') if messages|length == 1 }}{{ messages[0].__class__ }}{{ messages.append }}")


def call(name, args, id="abcdefghi"):
    return {"id": id, "type": "function", "function": {"name": name, "arguments": args}}


TOOLS = [{"type": "function", "function": {
    "name": "get_weather", "description": "Weather of a place, \"now\" or later",
    "parameters": {"type": "object", "properties": {
        "place": {"type": "string", "description": "Straße & Ort"},
        "days": {"type": "array", "items": {"type": "integer"}},
        "unit": {"type": "string", "enum": ["C", "F"], "default": "C"}}, "required": ["place"]}}},
    {"type": "function", "function": {"name": "add", "description": "Adds", "parameters": {
        "type": "object", "properties": {"a": {"type": ["number", "null"]}, "b": {"type": "number"}}, "required": ["a", "b"]}}}]


def m(*turns):
    names = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}
    return [{"role": names[r], "content": c} for r, c in turns]


CHATS = [
    {"messages": m(("u", "Hi")), "add_generation_prompt": True},
    {"messages": m(("s", "Be brief."), ("u", "What is 2+2?"), ("a", "4")), "add_generation_prompt": False},
    {"messages": m(("s", " Sys \n"), ("u", "  lead and trail \n\n"), ("a", "\n answer "), ("u", "next"), ("a", "ok"), ("u", "more")),
     "add_generation_prompt": True},
    {"messages": m(("u", ""), ("a", ""), ("u", "Grüße 你好 👋 \u00a0ÉΣ")), "add_generation_prompt": True},
    {"messages": m(("u", "one"), ("u", "two")), "add_generation_prompt": False},
    {"messages": m(("u", "q"), ("a", "<think>\nhmm\n</think>\n\nright"), ("u", "again 'quoted' \"double\" <b>&\\"),
                   ("a", "<think>x</think>y")), "add_generation_prompt": False},
    {"messages": m(("s", "Use tools. /no_think"), ("u", "Weather in Köln?"))
     + [{"role": "assistant", "content": None, "tool_calls": [call("get_weather", {"place": "Köln", "days": [1, 2]})]},
        {"role": "tool", "content": "{\"t\": 21.5}", "tool_call_id": "abcdefghi", "name": "get_weather"},
        {"role": "assistant", "content": "21.5 °C"}], "tools": TOOLS, "add_generation_prompt": False},
    {"messages": m(("u", "Add 1 and 2, twice"))
     + [{"role": "assistant", "content": "Sure.", "tool_calls": [call("add", {"a": 1, "b": 2.5}), call("add", {"a": -1, "b": 1e-7}, "x")]},
        {"role": "tool", "content": "3.5", "tool_call_id": "abcdefghi"}, {"role": "tool", "content": "-1", "tool_call_id": "x"}],
     "tools": TOOLS[1:], "add_generation_prompt": True},
    {"messages": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": " look "}]},
                  {"role": "assistant", "content": [{"type": "text", "text": "a cat"}], "reasoning_content": "seen"}],
     "add_generation_prompt": True},
    {"messages": m(("a", "I begin"), ("s", "late system"), ("u", "tab\there\r\nand lines\n\nblank"), ("a", "done"), ("u", "bye")),
     "add_generation_prompt": True},
]
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


def main():
    for path in sys.argv[1:]:
        add(os.path.basename(path), open(path, encoding="utf-8").read())
    out = open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "jinja.jsonl"), "w", encoding="utf-8")

    def put(**row):
        out.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")

    for name, text in T.items():
        put(name=name, template=text)
    for chat in CHATS:
        put(chat=dict(chat, messages=_alias_reasoning_fields(chat["messages"]), **TOKENS))
    raised = 0
    for t, text in enumerate(T.values()):
        for c, chat in enumerate(CHATS):
            args = dict(chat, **TOKENS)
            conversation = args.pop("messages")
            try:
                got, spans = render_jinja_template([conversation], chat_template=text,
                                                   return_assistant_tokens_mask=True, **args)
                text_out = got[0]
                at = [len(text_out[:i].encode()) for s in spans[0] for i in s]
                put(t=t, c=c, out=text_out, spans=at)
            except Exception:
                raised += 1
                put(t=t, c=c, raises=True)
    print(f"{len(T)} templates, {len(CHATS)} chats, {raised} refuse")


main()

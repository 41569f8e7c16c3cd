{# The key is every column that is no measure: the dimensions of finops.yaml are columns, too, and are not known here. #}
{% test finops_unique_but_for(model, measures) %}
{%- set key = [] -%}
{%- for column in adapter.get_columns_in_relation(model) if column.name not in measures -%}
    {%- do key.append(adapter.quote(column.name)) -%}
{%- endfor -%}
select {{ key | join(', ') }}, count(*) as rows_of_key
from {{ model }}
group by {{ key | join(', ') }}
having count(*) > 1
{% endtest %}
